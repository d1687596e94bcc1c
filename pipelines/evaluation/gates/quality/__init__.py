"""Gates over how well a version predicts, by itself and beside the champion."""
