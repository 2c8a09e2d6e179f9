"""The Hugging Face Hub: `hf://` sources and outputs."""
