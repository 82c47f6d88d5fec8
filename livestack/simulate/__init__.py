"""Simulated nights with known truth: for tests, benchmarks, the demo, and anyone who wants to see what a stack does.

`simulate_frame(scenario, index)` gives one frame and all that is true about it; `write_session` writes a whole night as
a camera would. Scenarios have names (`named_scenario`), and every knob of `Scenario` can be turned.
"""

from livestack.simulate.exposure import SimulatedFrame, simulate_calibration, simulate_frame
from livestack.simulate.light import project_pixels
from livestack.simulate.nights import SCENARIOS, asked_scenario, named_scenario, parse_size
from livestack.simulate.projection import parse_place
from livestack.simulate.scenario import Fault, Scenario
from livestack.simulate.sensor import Sensor, make_sensor
from livestack.simulate.session import write_session
from livestack.simulate.sky import Sky, make_sky
from livestack.simulate.weather import Conditions, conditions_of

__all__ = [
    "SCENARIOS", "Conditions", "Fault", "Scenario", "Sensor", "SimulatedFrame", "Sky",
    "asked_scenario", "conditions_of", "make_sensor", "make_sky", "named_scenario", "parse_place", "parse_size",
    "project_pixels", "simulate_calibration", "simulate_frame", "write_session",
]  # fmt: skip
