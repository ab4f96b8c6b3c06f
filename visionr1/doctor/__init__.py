"""What a user needs to know of a machine before a run: `visionr1 doctor`."""

from visionr1.doctor.finding import Finding as Finding
from visionr1.doctor.run import examine as examine
