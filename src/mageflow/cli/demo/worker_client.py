"""What the demo's worker processes load: `mageflow worker mageflow.cli.demo.worker_client:client`."""

from mageflow.cli.demo.flow import create_client

client = create_client()
