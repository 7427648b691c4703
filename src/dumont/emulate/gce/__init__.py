"""An emulator of Google Compute Engine: the part of its API that renting spot machines needs, with its faults.

    async with emulate_gce(port=8085, ground=Nowhere(), seed=1) as emulator:
        print(emulator.endpoint)

It follows `compute.v1` of the discovery document of 2026-11-06; its instances run on a Ground.
"""
