"""From a request to a plan: selection, spellings, volume layout, assembly. Pure."""
