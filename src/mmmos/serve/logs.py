"""Log records as JSON, one line each."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """Formats a record with its time, level, logger and message, and with the dict that it has as `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON.

        >>> record = logging.makeLogRecord({"msg": "request", "created": 0, "fields": {"status": 200}})
        >>> JsonLines().format(record)
        '{"time": "1970-01-01T00:00:00.000+00:00", "level": "info", "event": "request", "status": 200}'
        """
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower() if record.levelno else "info",
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
