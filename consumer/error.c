#include "consumer/error.h"

#include <errno.h>
#include <stdio.h>

#include "consumer/conn.h"

_Static_assert((int)SLUICE_ERROR_INTERNAL == (int)SLUICE__ERROR_CODE__ERROR_INTERNAL &&
		       (int)SLUICE_ERROR_SHUTDOWN == (int)SLUICE__ERROR_CODE__ERROR_SHUTDOWN,
	"the header's numbers are the protocol's");

_Thread_local struct error error_of_connect;

void error_vset(struct error *error, enum sluice_error_code code, const char *fmt, va_list args)
{
	vsnprintf(error->text, sizeof(error->text), fmt, args);
	error->code = code;
}

void error_set(struct error *error, enum sluice_error_code code, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	error_vset(error, code, fmt, args);
	va_end(args);
}

enum sluice_error_code error_code_from_wire(int code)
{
	if (code <= SLUICE_ERROR_NONE || code > SLUICE_ERROR_INTERNAL)
		return SLUICE_ERROR_INTERNAL;
	return (enum sluice_error_code)code;
}

int error_number(enum sluice_error_code code)
{
	static const int numbers[] = {
		[SLUICE_ERROR_NONE] = -EIO,
		[SLUICE_ERROR_PROTOCOL] = -EPROTO,
		[SLUICE_ERROR_VERSION] = -EPROTO,
		[SLUICE_ERROR_PERMISSION] = -EACCES,
		[SLUICE_ERROR_LIMIT] = -EDQUOT,
		[SLUICE_ERROR_NO_STREAM] = -ENOENT,
		[SLUICE_ERROR_NO_VIEW] = -EOPNOTSUPP,
		[SLUICE_ERROR_ADMISSION] = -EBUSY,
		[SLUICE_ERROR_EXISTS] = -EEXIST,
		[SLUICE_ERROR_TIMEOUT] = -ETIMEDOUT,
		[SLUICE_ERROR_SLOW] = -ECONNRESET,
		[SLUICE_ERROR_SHUTDOWN] = -ECONNRESET,
		[SLUICE_ERROR_STREAM_GONE] = -ENODEV,
		[SLUICE_ERROR_INTERNAL] = -EIO,
	};
	return numbers[code];
}

const char *sluice_error(const struct sluice *conn)
{
	const struct error *error = conn ? &conn->error : &error_of_connect;
	return error->text[0] ? error->text : "no error";
}

enum sluice_error_code sluice_error_code(const struct sluice *conn)
{
	return conn ? conn->error.code : error_of_connect.code;
}

const char *sluice_error_name(enum sluice_error_code code)
{
	return wire_error_name((int)code);
}
