"""The fully connected head of a graph: found from its outputs, read forward from its feature map."""
