"""The ROS 2 node and what it is made of. Only modules here import rclpy and ROS messages."""
