package main

// codes writes the kernels over rows of packed codes.
func codes() {}
