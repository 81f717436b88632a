"""The GPU worker that trains LoRAs with AI Toolkit, one job at a time. See the README beside this file."""
