"""The core, its pages and its web app work when the relay may do no more than pos_relay may."""

from tests import test_upkeep
from tests.e2e import (
    test_acknowledgements,
    test_api,
    test_board,
    test_core_terminals,
    test_messages,
    test_sync,
    test_webapp_sessions,
    test_webapp_staff,
)

for module in (
    test_acknowledgements,
    test_api,
    test_board,
    test_core_terminals,
    test_messages,
    test_sync,
    test_webapp_sessions,
    test_webapp_staff,
):
    globals().update({name: value for name, value in vars(module).items() if not name.startswith("_")})

test_pruning = test_upkeep.test_pruning_beside_changes_that_go_on_loses_and_doubles_none
