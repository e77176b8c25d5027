"""What surveys and records show to everybody: the facts as data, the site about releases, the dashboard of runs."""
