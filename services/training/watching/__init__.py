"""Callbacks that watch a training: checkpoints, stopping, metrics, the watchdog, TensorBoard, experiment trackers."""
