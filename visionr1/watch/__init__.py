"""What people look at while a run goes: dashboards, alerts, and the live view in a terminal."""
