"""What pyproject.toml cannot say: every package below rewriter/ is found, and cli/ is installed as rewriter.cli."""

from setuptools import find_packages, setup

# A bare top-level `cli` would collide with those of others.
setup(
    packages=[*find_packages(include=["rewriter", "rewriter.*"]), "rewriter.cli"],
    package_dir={"rewriter.cli": "cli"},
)
