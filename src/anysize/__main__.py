"""`python -m anysize`."""

from anysize.cli import main

raise SystemExit(main())
