"""A stand-in ComfyUI: its HTTP and WebSocket protocol, its checks of a prompt, and no GPU."""
