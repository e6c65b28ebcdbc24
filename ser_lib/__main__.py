import sys

from ser_lib.cli import main

sys.exit(main())
