"""limitlib: the kernel of an executable companion to arXiv 2604.24037.

Import from the rooms (``from limitlib.iteration import iterate``); importing the package itself loads nothing else.
"""

__version__ = "0.1.0"
