"""What is published looks on the wire as aio-pika would write it."""

from aio_pika import DeliveryMode, Message
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from worker.adapters.amqp_publish import Notice

BODY, KIND = b"{}", "application/json"


def test_a_notice_has_the_properties_of_a_persistent_message():
    """Listeners find the same fields in it, though it is made without aio-pika's message."""
    theirs = Message(BODY, content_type=KIND, delivery_mode=DeliveryMode.PERSISTENT).properties
    assert _written(Notice(BODY, KIND).properties) == _written(theirs)


def test_each_try_gets_properties_of_its_own():
    """The id that the client writes into those of one try must not be that of the next: answers are matched by it."""
    notice = Notice(BODY, KIND)
    notice.properties.message_id = "of the first try"
    assert notice.properties.message_id is None


def _written(properties: Basic.Properties) -> bytes:
    return ContentHeader(properties=properties, body_size=len(BODY)).marshal()
