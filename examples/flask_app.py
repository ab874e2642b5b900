"""A Flask app that starts flows and shows how they are.

mageflow worker flask_app:client      # runs the tasks
flask --app flask_app run             # serves the app

curl -X POST localhost:5000/orders/7
curl localhost:5000/orders/<key of the answer>
"""

from flask import Flask, Response, abort, jsonify
from pydantic import BaseModel

from mageflow import Mageflow, Status

client = Mageflow()
app = Flask(__name__)


class Order(BaseModel):
    number: int


@client.task(name="reserve")
async def reserve(order: Order) -> str:
    return f"shelf {order.number % 10}"


@client.task(name="pack")
async def pack(mageflow_results: str) -> str:
    return f"parcel from {mageflow_results}"


@app.post("/orders/<int:number>")
def place(number: int) -> tuple[Response, int]:
    flow = client.sync.achain([reserve, pack], name=f"order {number}")
    handle = flow.aio_run_no_wait(Order(number=number))
    return jsonify(key=handle.key), 202


@app.get("/orders/<path:key>")
def show(key: str) -> Response:
    flow = client.sync.load_signature(key)
    if flow is None:
        abort(404)
    status = flow.task_status
    return jsonify(status=status, result=flow.handle.result() if status is Status.DONE else None)
