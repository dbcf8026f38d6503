"""`python -m clusteradm.node`: answer requests on standard input until it ends."""

from clusteradm.node.session import Session


def main() -> None:
    Session().run()


if __name__ == "__main__":
    main()
