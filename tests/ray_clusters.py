"""A Ray cluster of processes of this machine, whose machines can be killed."""

STORE_BYTES = 80 * 2**20  # of shared memory, of which there may be little
# Machines that are gone are noticed within five seconds instead of half a minute; those that are slow to start are not.
QUICK = {"health_check_period_ms": 1000, "health_check_failure_threshold": 5}


class RayCluster:
    """A head without cores, and machines of one core and one made-up GPU each."""

    def __init__(self, folder: str, num_machines: int = 2) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "num_gpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False}
        self._cluster = Cluster(True, head_node_args={**head, "temp_dir": folder, "_system_config": QUICK})
        self._num_machines = num_machines
        self._workers = [self._add() for _ in range(num_machines)]
        self.address: str = self._cluster.address

    def _add(self) -> object:
        return self._cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=STORE_BYTES)

    def kill_one(self) -> None:
        """Kill everything that belongs to one of the machines."""
        self._cluster.remove_node(self._workers.pop(0), allow_graceful=False)

    def mend(self) -> None:
        """Put a new machine in the place of one that was killed."""
        while len(self._workers) < self._num_machines:
            self._workers.append(self._add())

    def stop(self) -> None:
        self._cluster.shutdown()
