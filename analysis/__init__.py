"""What the runs say: reads run files, measures, and draws; shared by the app and the notebooks."""
