"""What may arrive at the hub, and what it answers, over one listener: agents, pulses, stores, the gateway, joiners.

The first message says what a link is for.
"""

from dumont.wire.control import FromAgent, FromServer
from dumont.wire.join import FromJoiner, ToJoiner
from dumont.wire.route import FromGateway, ToGateway
from dumont.wire.store import FromStore, ToStore

ToHub = FromAgent | FromGateway | FromJoiner | ToStore
FromHub = FromServer | ToGateway | ToJoiner | FromStore
