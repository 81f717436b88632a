"""GPU jobs on RunPod serverless endpoints, from Python web apps."""
