"""Tables: functions from measured numbers to a DataFrame whose first column names the rows."""
