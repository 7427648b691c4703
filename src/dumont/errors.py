"""Every error Dumont raises on purpose, drawn as a tree. Each message says what to do next.

DumontError
├── BadInput            what a person or a program gave us does not make sense
│   ├── NoSuchWorkspace
│   ├── NoSuchHistory
│   └── NameTaken
├── IllegalMove         a state change that the table of moves does not hold
├── Fenced              a higher epoch exists; this replica must stop
├── Refused             a member of the ack set will not acknowledge, and says why
│   ├── DiskFull
│   └── NotDurable      fsync failed: nothing written since can be trusted
├── Corrupt             bytes do not match their hash
├── WrongKey            a passphrase or key does not open what it should
├── LinkClosed          the other side went away
├── StoreError
│   ├── AlreadyStored   a conditional write met an object of that name
│   └── NotStored       no such object
├── ProviderError       the provider did not answer as it should; says nothing about machines
│   ├── NoCapacity
│   └── NoSuchInstance  the provider confirms that it has no such machine
├── ServerAway          the server can't be reached from here
└── NotPossibleHere     this machine lacks something; the message names what and how to get it
"""


class DumontError(Exception):
    """The root of all errors that Dumont raises on purpose."""


class BadInput(DumontError):
    """The caller's input does not make sense; nothing was changed."""


class NoSuchWorkspace(BadInput):
    """There is no workspace of that name. `dumont ls` lists them."""


class NoSuchHistory(BadInput):
    """No removed workspace left a history of that name. `dumont history` lists them."""


class NameTaken(BadInput):
    """A workspace of that name exists. Pick another name or remove it first."""


class IllegalMove(DumontError):
    """A state change that the table of moves does not hold; a bug of ours."""


class Fenced(DumontError):
    """A higher epoch exists. This replica must acknowledge nothing and end its workload."""


class Refused(DumontError):
    """A member of the ack set will not acknowledge; the message says why."""


class DiskFull(Refused):
    """The standby's disk is full. Free space there or rent a larger standby."""


class NotDurable(Refused):
    """An fsync failed. Nothing written since the last good one can be trusted."""


class Corrupt(DumontError):
    """Bytes do not match their hash. The copy they came from must not be used."""


class WrongKey(DumontError):
    """The passphrase or key does not open this repository. Nothing was read or changed."""


class LinkClosed(DumontError):
    """The other side went away, or the link was closed here."""


class StoreError(DumontError):
    """The store did not do what was asked."""


class AlreadyStored(StoreError):
    """A conditional write met an object of that name; the stored one was left as it is."""


class NotStored(StoreError):
    """The store has no object of that name."""


class ProviderError(DumontError):
    """The provider did not answer as it should. This says nothing about any machine."""


class NoCapacity(ProviderError):
    """Nobody rents such a machine out right now. Another region or a higher price may help."""


class NoSuchInstance(ProviderError):
    """The provider confirms that it has no such machine."""


class ServerAway(DumontError):
    """The Dumont server can't be reached. Start it with `dumont up`."""


class NotPossibleHere(DumontError):
    """This machine lacks something; the message names it and how to get it."""
