"""The graph on its way to the file: cleaned, in the opset and the precision that were asked for."""
