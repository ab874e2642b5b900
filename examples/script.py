"""A plain script without `async`: it makes a flow, runs a worker of its own for it, and prints the result.

python script.py
"""

from mageflow import Mageflow, SwarmConfig

client = Mageflow()


@client.task(name="square")
def square(number: int) -> int:
    return number * number


def main() -> None:
    squares = client.sync.aswarm(config=SwarmConfig(max_concurrency=4))
    with client.sync.worker():
        handle = squares.aio_run_no_wait()
        with squares.adding():
            for number in range(10):
                squares.aio_run_in_swarm(square, {"number": number})
        print(sum(handle.result(timeout=20)))
    client.sync.shutdown()


if __name__ == "__main__":
    main()
