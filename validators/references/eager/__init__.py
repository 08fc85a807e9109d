"""References that are eager modules, whole or cut at their feature map."""
