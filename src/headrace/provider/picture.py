"""Pictures that are files here, as a body can hold them. Enters a request, leaves base64."""

import asyncio
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from headrace.core.call import Image, Request
from headrace.core.errors import Rejected


async def contents(request: Request) -> Mapping[Image, str]:
    """Read just before they are sent, so that only what is in flight is held; raises Rejected where a file is not what
    it was when it was read first: its answer would be remembered for another picture."""
    files = [image for message in request.messages for image in message.images if image.digest]
    if not files:
        return {}
    return await asyncio.to_thread(lambda: {image: _content(image) for image in files})


def _content(image: Image) -> str:
    try:
        data = Path(image.source).read_bytes()
    except OSError as error:
        raise Rejected(
            f"The picture {image.source} can no longer be read: {error.strerror or error}.",
            hint="Put it back, and run again.",
        ) from error
    if sha256(data).digest() != image.digest:
        raise Rejected(f"The picture {image.source} was changed while the run went on.", hint="Run again.")
    return b64encode(data).decode()
