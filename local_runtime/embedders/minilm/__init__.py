"""The parts that the MiniLM embedders share: the packaged files, tokens, and our own int8 export."""
