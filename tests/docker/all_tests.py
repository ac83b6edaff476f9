"""Runs every test of this folder in one Docker engine."""
import unittest

from docker_test import ComposeTest, ImageTest  # noqa: F401
from systemd_test import SystemdTest  # noqa: F401

if __name__ == '__main__':
    unittest.main(verbosity=2)
