#pragma once
// See ../../README.md.
