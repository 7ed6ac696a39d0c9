"""Camera images without ROS: encodings, calibration and the ground."""
