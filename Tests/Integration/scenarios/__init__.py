"""Scenarios: one module per topic, one function `check_…(environment)` per scenario, told top-down."""

# The quick and basic first, so that a broken build shows at once.
ORDER = ["smoke", "differential", "replication", "create_cluster", "cluster", "hostile", "data", "mixed", "failover"]
