"""What people call: the client, the job handle, and the doctor."""
