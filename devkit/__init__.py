"""What developers need beside the worker: private servers, made media, the demo, the generated documents."""
