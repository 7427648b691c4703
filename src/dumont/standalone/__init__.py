"""The command line that needs no server: `dumont snapshot …` over a repository in any store. One file per verb."""
