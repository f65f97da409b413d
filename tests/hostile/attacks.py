"""Every stimulus, in the order of the page."""

from __future__ import annotations

from typing import Final

from .arrivals import ARRIVALS
from .ends import ENDS
from .growth import GROWTH
from .leaks import LEAKS
from .messages import MESSAGES
from .rates import RATES
from .requests import REQUESTS
from .stops import STOPS

ATTACKS: Final = [*MESSAGES, *RATES, *REQUESTS, *GROWTH, *ARRIVALS, *ENDS, *STOPS, *LEAKS]
