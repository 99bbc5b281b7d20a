// Errors that a sanitizer must report, so that one that reports nothing has looked.
#pragma once

extern "C" {
int read_out_of_bounds();
int overflow();
int race();
}
