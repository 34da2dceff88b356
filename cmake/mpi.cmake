# Decides whether this build can train over processes that mpirun starts: sets VITRINE_HAS_MPI, and MPI::MPI_CXX with it.
set(VITRINE_HAS_MPI OFF)
if(NOT VITRINE_MPI)
  message(STATUS "MPI: no (VITRINE_MPI is ${VITRINE_MPI}): training stays in one process")
  return()
endif()
set(MPI_CXX_SKIP_MPICXX ON)  # the C interface is all that is used
find_package(MPI QUIET COMPONENTS CXX)
if(MPI_CXX_FOUND)
  set(VITRINE_HAS_MPI ON)
  message(STATUS "MPI: ${MPI_CXX_VERSION}, ${MPIEXEC_EXECUTABLE}")
elseif(VITRINE_MPI STREQUAL "AUTO")
  message(STATUS "MPI: no (not found; Debian: libopenmpi-dev openmpi-bin): training stays in one process")
else()
  message(FATAL_ERROR "VITRINE_MPI is ${VITRINE_MPI}, but CMake finds no MPI. Debian: apt-get install libopenmpi-dev openmpi-bin; "
                      "or use -DVITRINE_MPI=OFF")
endif()
