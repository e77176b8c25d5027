"""The pytest plugin: the declared matrix as tests, and groups of mixed releases for a project's own tests."""
