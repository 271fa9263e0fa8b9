"""What the program offers to Python: `train`, and the snapshot and the bundle as objects. The commands call the same.

What happens and what a person should look at goes to the logger `toolchain`, as INFO and as WARNING; nothing is printed
unless the caller's own logging does.
"""

import logging

logging.getLogger("toolchain").addHandler(logging.NullHandler())
