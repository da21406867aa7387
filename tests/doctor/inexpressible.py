"""The reasons why a call is not compared."""


class Inexpressible(Exception):
    """No case expresses the call. The message gives the reason in words."""


class Unfit(Exception):
    """An argument has a shape or dtype that the specification does not allow. The message names it."""
