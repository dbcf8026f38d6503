"""An inference job on the cluster: the head's side of it, its supervisor, and what every MPI rank runs."""
