"""The demo: a flow that reads thousands of this Python's own source files and reports on them.

    swarm of `parse-file`, one per file  ->  `rank-files`  ->  `render-report`      (a chain)
      |  a file that does not parse: `note-failure`                |  success: `write-report`

`tasks` holds the tasks, `flow` puts them together, `worker_client` is what the worker processes load. `run` is
the command: it starts the workers, follows the flow on the terminal and checks the report against a plain count.
"""
