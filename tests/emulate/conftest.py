"""Marks of the tests on emulated processors."""


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: minutes under an emulator; ./check --full runs them")
