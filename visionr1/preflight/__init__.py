"""What can be seen before the first phase: is the model whole, are files, lengths and the machine as the recipe needs them?

Never imports torch or transformers: it reads JSON, and the headers of safetensors files.
"""
