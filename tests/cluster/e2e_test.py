"""All tests on two nodes with the operator installed: one cluster for both files."""
import kubernetes
from faults_test import Faults  # noqa: F401
from jobs_test import Jobs  # noqa: F401

if __name__ == "__main__":
    kubernetes.main()
