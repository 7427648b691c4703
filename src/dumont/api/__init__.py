"""The API of one server: resources over HTTP on the loopback interface, one file each."""
