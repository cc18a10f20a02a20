"""An event file as TensorBoard's own writer makes it: pip install tensorboard==2.21.0; python tests/golden/event_file.py"""

import io
import pathlib

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

file = io.BytesIO()
writer = RecordWriter(file)
value = Summary.Value(tag="val/auc", simple_value=0.75)
for event in [
    Event(wall_time=1.7e9, file_version="brain.Event:2"),
    Event(wall_time=1.7e9, step=300, summary=Summary(value=[value])),
]:
    writer.write(event.SerializeToString())
pathlib.Path(__file__).with_name("event_file.txt").write_text(file.getvalue().hex() + "\n")
