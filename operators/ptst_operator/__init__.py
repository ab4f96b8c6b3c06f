"""The Kubernetes hands of `visionr1.pipeline.planner`: observes PTSTRuns and their children, applies what the planner says."""
